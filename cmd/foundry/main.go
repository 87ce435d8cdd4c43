// Command foundry is the control plane, the worker, and the client of both.
package main

import (
	"context"
	"os"

	"foundry/internal/cli"
	"foundry/internal/lifecycle"
	"foundry/internal/pgdev"
	"foundry/internal/shim"
)

func main() {
	os.Exit(run())
}

func run() int {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "shim":
			return shim.Main(os.Args[2:], os.Stdin, os.Stdout)
		case pgdev.SuperviseArg:
			return pgdev.SuperviseMain(os.Args[2:])
		}
	}
	ctx, release := lifecycle.Signals(context.Background())
	defer release()
	return cli.Run(ctx, os.Args[1:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}
