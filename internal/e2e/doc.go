// Package e2e has only tests: they build the foundry binary once and use it as people do, as processes
// of its own, through the command line and HTTP, on a database of package pgtest.
package e2e
