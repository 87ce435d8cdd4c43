# One image for both services; Railway sets the start command of each (.railway/railway.ts). No shell stands around the programs, so SIGTERM
# reaches them. tini is there for the worker: shims outlive whoever started them, and as process 1 it reaps them.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY . .
# No "go mod download": it would fetch every module of the graph, several times of what the build needs.
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w" -o /out/ ./cmd/...

FROM debian:bookworm-slim
RUN apt-get update \
	&& apt-get install --yes --no-install-recommends bubblewrap ca-certificates tini \
	&& rm -rf /var/lib/apt/lists/* \
	&& useradd --uid 10001 --create-home foundry
COPY --from=build /out/foundry /out/worker /out/shim /usr/local/bin/
USER foundry
WORKDIR /home/foundry
ENTRYPOINT ["/usr/bin/tini", "--", "/usr/local/bin/foundry"]
CMD ["serve"]
