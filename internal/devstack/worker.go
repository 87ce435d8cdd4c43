package devstack

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"foundry/internal/config"
	"foundry/internal/errs"
	"foundry/internal/postgres"
	"foundry/internal/worker"
	"foundry/internal/workflow"
)

// workerPoolSize is for everything but the lease (protocols.md, 11).
const workerPoolSize = 4

// RunWorker is the worker's process. It returns when ctx has ended and what it held is given back.
func RunWorker(ctx context.Context, c config.Worker, log zerolog.Logger, version string) error {
	keys, err := Keyring(c.Secrets)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("finding the name of this machine: %w", err)
	}
	pool, err := postgres.Open(ctx, string(c.Database.URL), postgres.Options{Name: "foundry worker", MaxConns: workerPoolSize})
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := postgres.CheckSchema(ctx, pool); err != nil {
		return err
	}
	leases, err := postgres.Open(ctx, string(c.Database.URL), postgres.Options{Name: "foundry worker lease", MaxConns: 1})
	if err != nil {
		return err
	}
	defer leases.Close()
	provider, err := openSandboxes(ctx, c.Sandbox, part(log, "sandbox"))
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", ":"+strconv.Itoa(int(c.Port)))
	if err != nil {
		return errs.E(errs.Conflict, "Port %d cannot be listened on; set PORT to another.", c.Port).Because(err)
	}
	defer listener.Close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	w, err := worker.New(worker.Config{
		Pool: pool, LeasePool: leases, DirectURL: string(c.Database.Direct), Listener: listener,
		Provider: provider, Host: host, Place: provider.place, Version: version, Slots: int(c.Slots), Lease: time.Duration(c.Lease), QueuedMax: int(c.QueuedMax),
		Keep: workflow.Keep(c.Sandbox.Keep), Keys: keys, Logger: log, Registry: registry,
	})
	if err != nil {
		return err
	}
	log.Info().Str("address", listener.Addr().String()).Str("isolation", string(provider.Level())).Msg("worker starts")
	return w.Run(ctx)
}
