// Package archtest holds the rules about the code as a whole that no linter of ours can express: what request handlers may
// reach over any number of imports, and which packages explain themselves.
//
// The rules about single imports are in .golangci.yml (depguard). The tests parse the sources by themselves and
// start no go list: files that a test opens are inputs of Go's test cache, what a child process reads is not.
package archtest
