# The sidecar, for compose.yaml and for pods. Envoy is not in it: it runs beside it, from its own image.
ARG GO_IMAGE=golang:1.26-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/millrace ./cmd/millrace \
  && mkdir /out/run /out/data

FROM ${BASE_IMAGE}
COPY --from=build /out/millrace /usr/local/bin/millrace
# The user of Envoy's own image: both open each other's sockets, nobody else does.
COPY --from=build --chown=101:101 /out/run /run/millrace
COPY --from=build --chown=101:101 /out/data /var/lib/millrace
USER 101:101
ENTRYPOINT ["/usr/local/bin/millrace"]
CMD ["serve", "--config", "/etc/millrace/config.yaml", "--socket-dir", "/run/millrace"]
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
  CMD ["/usr/local/bin/millrace", "health", "--socket-dir", "/run/millrace"]
