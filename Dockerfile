# The operator's image, made with a builder container. `cargo xtask image` makes the same without Docker.
# A release passes BUILDER with its digest, so that the toolchain is the one that was tested.
ARG BUILDER=docker.io/library/rust:1.95.0-alpine
FROM ${BUILDER} AS build
RUN apk add --no-cache build-base cmake linux-headers perl
WORKDIR /src
COPY . .
# Paths are mapped and times fixed: two builds in two folders give the same bytes.
ENV SOURCE_DATE_EPOCH=0 \
    CARGO_TARGET_DIR=/target \
    RUSTFLAGS="--remap-path-prefix=/usr/local/cargo/registry/src=/crates" \
    CFLAGS="-ffile-prefix-map=/usr/local/cargo/registry/src=/crates"
RUN cargo build --locked --release --package countersign --bin countersign \
    && mkdir -p /image/tmp && chmod 1777 /image/tmp \
    && cp /target/release/countersign /image/countersign

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="countersign" \
      org.opencontainers.image.source="https://github.com/countersign-dev/countersign" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /
USER 65532:65532
ENTRYPOINT ["/countersign"]
CMD ["run"]
