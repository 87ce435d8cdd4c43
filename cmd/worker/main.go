// Command worker executes what is queued. It is `foundry worker` alone, without the control plane.
package main

import (
	"context"
	"os"

	"foundry/internal/cli"
	"foundry/internal/lifecycle"
	"foundry/internal/shim"
)

func main() {
	os.Exit(run())
}

func run() int {
	if len(os.Args) > 1 && os.Args[1] == "shim" {
		return shim.Main(os.Args[2:], os.Stdin, os.Stdout)
	}
	ctx, release := lifecycle.Signals(context.Background())
	defer release()
	return cli.Run(ctx, append([]string{"worker"}, os.Args[1:]...), cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}
