package workflow

import "time"

// Limits of a text and of what it asks for. Beyond one, the message names it and the value.
const (
	MaxSource      = 256 << 10 // bytes of a text
	MaxNodes       = 1000
	MaxDepth       = 64 // levels of nesting
	MaxKey         = 128
	MaxInputs      = 64 << 10 // bytes of an execution's inputs as JSON
	MaxFiles       = 10 << 20 // bytes of a version's files together
	MaxRetries     = 20
	MaxMatrix      = 1000 // combinations
	MaxRepeat      = 1000 // iterations
	MaxParallel    = 32
	MaxPriority    = 10
	MaxLog         = 64 << 20 // bytes of output of one attempt
	MaxDuration    = 365 * 24 * time.Hour
	maxDescription = 4 << 10
	maxPath        = 255
)

// What a text gets that does not say otherwise.
const (
	DefaultTimeout      = 24 * time.Hour
	DefaultQueueTimeout = 24 * time.Hour
	DefaultMaxParallel  = 8
	DefaultInitial      = time.Second
	DefaultMaxDelay     = time.Minute
)

// Grammar is the number of the present grammar, stored with each version.
const Grammar = 1
