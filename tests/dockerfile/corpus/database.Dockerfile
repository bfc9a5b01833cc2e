FROM debian:bookworm-slim

RUN set -eux; \
	groupadd -r db --gid=999; \

	useradd -r -g db --uid=999 --home-dir=/var/lib/db --shell=/bin/bash db

ENV GOSU_VERSION=1.17
ADD --checksum=sha256:bbc4136d03ab138b1ad66fa4fc051bafc6cc7ffae632b069a53657279a450de3 --chmod=0755 \
    https://example.org/gosu/${GOSU_VERSION}/gosu-amd64 /usr/local/bin/gosu
ADD --keep-git-dir=false https://example.org/contrib.git#v1 /usr/src/contrib
ADD rootfs.tar.xz /
ENV DB_PASSWORD secret
ENV PGDATA=/var/lib/db/data
VOLUME $PGDATA
COPY docker-entrypoint.sh docker-ensure-*.sh /usr/local/bin/
RUN ln -sT docker-ensure-initdb.sh /usr/local/bin/docker-enforce-initdb.sh
ENTRYPOINT ["docker-entrypoint.sh"]
STOPSIGNAL SIGINT
EXPOSE 5432
CMD ["db"]
