# The build takes some minutes. `deploy/container/root` makes the file system, here as in the test.
FROM docker.io/library/rust:1.95-bookworm AS build
COPY . /source
WORKDIR /source
RUN cargo build --release --locked && deploy/container/root target/release/ringback /root-of-container

FROM scratch
COPY --from=build /root-of-container /
USER 10001:10001
VOLUME /var/lib/ringback
EXPOSE 5060/udp 5060/tcp 8080/tcp
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/usr/bin/ringback", "status", "--ready"]
ENV RINGBACK_CONFIG=/etc/ringback/ringback.toml
ENTRYPOINT ["/usr/bin/ringback"]
CMD ["serve"]
