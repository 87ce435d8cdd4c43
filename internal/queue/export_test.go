package queue

import "github.com/google/uuid"

// Sharing is how many enqueues of a workflow wait for the next shared commit.
func (s *Store) Sharing(organization, workflow uuid.UUID) int {
	return s.enqueues.Waiting(lane{organization, workflow})
}
