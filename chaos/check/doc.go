// Package check looks at what a Foundry has written after everything has come to rest, and says what breaks a promise.
//
//	World      what the database holds           ─┐
//	Evidence   what the commands and clients saw ─┴▶ Violations, one sentence each, by rule
//
// Rules know nothing of how the history came about: what was killed, when, and how often. Each has a test that plants what it
// must find.
package check
