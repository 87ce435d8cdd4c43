// Command shim supervises one command per directory in a sandbox; see package shim.
package main

import (
	"os"

	"foundry/internal/shim"
)

func main() { os.Exit(shim.Main(os.Args[1:], os.Stdin, os.Stdout)) }
