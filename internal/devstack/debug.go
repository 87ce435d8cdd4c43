package devstack

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/rs/zerolog"

	"foundry/internal/config"
	"foundry/internal/errs"
)

// WithDebug runs f, and while it runs serves profiles (net/http/pprof) at /debug/pprof/ of the address, which this machine alone reaches:
// whoever may connect may read the process's memory. Without an address it just runs f.
func WithDebug(ctx context.Context, address config.DebugAddress, log zerolog.Logger, f func(context.Context) error) error {
	if address == "" {
		return f(ctx)
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", string(address))
	if err != nil {
		return errs.E(errs.Conflict, "%s cannot be listened on; set FOUNDRY_DEBUG_ADDR to another.", address).Because(err)
	}
	server := &http.Server{Handler: profiles(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	log.Warn().Str("address", listener.Addr().String()).Msg("profiles are served; whoever may connect may read this process's memory")
	err = f(ctx)
	err = errors.Join(err, server.Close())
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
