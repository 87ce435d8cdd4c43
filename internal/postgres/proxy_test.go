package postgres_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
)

// proxy joins a client to the server's socket, without notifications.
func proxy(ctx context.Context, client net.Conn, socket string) {
	defer client.Close()
	server, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return
	}
	var group sync.WaitGroup
	defer group.Wait()
	defer server.Close()
	group.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	for {
		var header [5]byte // type, then length without the type
		if _, err := io.ReadFull(server, header[:]); err != nil {
			_ = client.Close()
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(header[1:])-4)
		if _, err := io.ReadFull(server, body); err != nil {
			_ = client.Close()
			return
		}
		if header[0] == 'A' { // NotificationResponse
			continue
		}
		if _, err := client.Write(append(header[:], body...)); err != nil {
			return
		}
	}
}
