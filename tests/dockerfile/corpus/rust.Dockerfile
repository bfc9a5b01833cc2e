FROM rust:1-bookworm AS chef
RUN cargo install cargo-chef --locked
WORKDIR /app

FROM chef AS planner
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS builder
COPY --from=planner /app/recipe.json recipe.json
RUN cargo chef cook --release --recipe-path recipe.json
COPY . .
RUN cargo build --release --bin tool \
 && strip target/release/tool

FROM debian:bookworm-slim AS runtime
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates \
    # the list of packages is not needed any more
    && rm -rf /var/lib/apt/lists/*
COPY --from=builder /app/target/release/tool /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/tool"]
