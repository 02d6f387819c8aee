# The bridge with the shipped plugins. Both stages are of the same Debian: the binary uses its OpenSSL and zlib.
FROM rust:1.95.0-slim-trixie AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc g++ libc6-dev make pkg-config libssl-dev zlib1g-dev \
    && rm -rf /var/lib/apt/lists/* \
    && rustup target add wasm32-unknown-unknown
WORKDIR /build
COPY . .
# The caches are no part of a layer, so what leaves them is copied in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin portcullis \
    && install -D -m 0755 target/release/portcullis /out/portcullis
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/plugins/target \
    cd plugins \
    && cargo build --release --locked --target wasm32-unknown-unknown \
        --package http-enrich --package json-schema --package redact --package stamp \
    && for name in http-enrich json-schema redact stamp; do \
        install -D -m 0644 "target/wasm32-unknown-unknown/release/$(echo "$name" | tr - _).wasm" "/out/plugins/$name.wasm" || exit 1; \
    done

FROM debian:13.1-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libssl3t64 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 portcullis \
    && useradd --system --uid 10001 --gid 10001 --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin portcullis \
    && install -d -m 0700 -o portcullis -g portcullis /var/cache/portcullis
COPY --from=build /out/portcullis /usr/local/bin/portcullis
COPY --from=build /out/plugins /opt/portcullis/plugins
COPY deploy/portcullis/health.sh /usr/local/bin/portcullis-health
# The folder is the user's own, so that a volume which is mounted there begins as one that the cache accepts.
ENV PORTCULLIS_CACHE__DIR=/var/cache/portcullis/components
WORKDIR /opt/portcullis
USER 10001:10001
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["portcullis"]
CMD ["--help"]
