FROM --platform=$BUILDPLATFORM golang:1.23 AS build
WORKDIR /src
ARG TARGETOS TARGETARCH TARGETVARIANT
ARG VERSION=dev
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=ssh go mod download
RUN --mount=target=. \
    --mount=type=cache,target=/root/.cache/go-build,sharing=locked \
    --mount=type=cache,target=/go/pkg/mod \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/server ./cmd/server

FROM build AS lint
RUN go vet ./...

FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title="server" \
      org.opencontainers.image.version=$VERSION
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --link /out/server /server
USER 65532:65532
EXPOSE 8080/tcp 9090-9092
STOPSIGNAL SIGINT
ENTRYPOINT ["/server"]
CMD ["--listen", ":8080"]
