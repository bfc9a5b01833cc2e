# syntax=docker/dockerfile:1
# check=skip=SecretsUsedInArgOrEnv;experimental=InvalidDefinitionDescription
# TOOLS is the image that has the compilers
ARG TOOLS=tools

FROM ${TOOLS} AS sources
WORKDIR /repo
COPY --parents ./packages/*/package.json ./packages/./*/tsconfig.json ./
COPY --parents --exclude=**/node_modules --exclude=*.log apps/./*/src/ /repo/

FROM sources AS app
ARG APP
ARG SIGNING_KEY
ENV APP_DIR="/repo/apps/${APP:?give --build-arg APP=NAME}" \
    APP_NAME=${APP##*/} APP_FLAT=${APP//\//-} APP_EXT=${APP%.*}
WORKDIR $APP_DIR
RUN --network=none --security=sandbox make
ONBUILD COPY --from=sources /repo/LICENSE /LICENSE
ONBUILD RUN echo $APP_NAME

FROM app AS release
COPY --from=proto /gen/ gen/
COPY --from=0 /repo/README.md .
