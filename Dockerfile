# syntax=docker/dockerfile:1
# One binary on a distribution without a shell, as a user without rights. Build and run:
#
#   docker build -t stepwell .
#   docker run --rm -v stepwell:/data stepwell keys create --name admin --role admin
#   docker run --rm -p 4000:4000 -v stepwell:/data -e OPENAI_API_KEY stepwell
#
# A configuration is mounted at /etc/stepwell/providers.yaml.

FROM rust:1.95-bookworm AS build
# aws-lc (TLS) is built from C.
RUN apt-get update && apt-get install -y --no-install-recommends cmake=3.25.* && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin stepwell && install -D target/release/stepwell /out/stepwell && mkdir /out/data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/stepwell /usr/local/bin/stepwell
COPY --from=build --chown=65532:65532 /out/data /data
ENV STEPWELL_DATA_DIR=/data
VOLUME /data
EXPOSE 4000
# nonroot, by number: Kubernetes checks that it is not 0.
USER 65532:65532
# The binary asks itself: there is no shell and no curl here.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/usr/local/bin/stepwell", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/stepwell"]
CMD ["serve", "--host", "0.0.0.0"]
