// Package auth knows who is asking and what they may do: organizations, people, their roles, sessions, API tokens, invitations,
// and the one policy table (policy.go).
//
// Whatever lets somebody in is a secret of one form: a prefix that names its kind, 43 characters of base62 that hold 32 random
// bytes, and 6 that hold their CRC-32. The prefix and the checksum let secret scanners find a leaked one without asking us, and
// let us refuse a mistyped one without asking the database. Only the SHA-256 is stored; 32 random bytes need no slow hash.
// Passwords do, and get argon2id.
//
// A session, as a link to sign in and an invitation, counts until it is used up, revoked or has run out, by the database's clock:
//
//	sign-in (password, link, invitation) → session ─┬→ revoked: sign-out, by its user, new password, removed member
//	                                                ├→ idle: 7 days without a request
//	                                                └→ over: 30 days after the sign-in
//
// Every failed sign-in is counted before the password is looked at, under a lock per subject, so that guesses in parallel
// are limited like those in a row. Failing to tell an unknown address from a wrong password is intended: both take one
// argon2id and answer the same.
package auth
