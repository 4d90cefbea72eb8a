# Container image of Skep: built on Debian, run on slim Debian as an unprivileged user.
FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
# The caches persist between builds, so that a change of Skep's code does not rebuild the dependencies.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin skep && cp target/release/skep /skep

FROM debian:bookworm-slim
# git: workspaces; bubblewrap: the sandbox of agents and checks; curl: the health check.
RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap ca-certificates curl git openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 7377 --home-dir /var/lib/skep --shell /usr/sbin/nologin skep \
    && install -d -o skep -g skep -m 700 /var/lib/skep
COPY --from=build /skep /usr/local/bin/skep
USER skep
ENV SKEP_DATA_DIR=/var/lib/skep
VOLUME /var/lib/skep
EXPOSE 7377
STOPSIGNAL SIGTERM
CMD ["skep", "serve"]
