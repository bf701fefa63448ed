// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package envoytest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// kept is one HTTP/1.1 connection to the proxy that all requests go over.
type kept struct {
	t      testing.TB
	conn   net.Conn
	reader *bufio.Reader
}

func dialKept(t testing.TB, port uint32) *kept {
	t.Helper()
	conn, err := net.Dial("tcp", Address(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &kept{t: t, conn: conn, reader: bufio.NewReader(conn)}
}

// get asks for a path, wants 200, and gives the answer's Connection header.
func (k *kept) get(path string) string {
	k.t.Helper()
	_, _ = fmt.Fprintf(k.conn, "GET %s HTTP/1.1\r\nHost: example.com\r\nOrigin: https://example.com\r\n\r\n", path)
	response, err := http.ReadResponse(k.reader, nil)
	if err != nil {
		k.t.Fatalf("the connection was lost: %v", err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusOK {
		k.t.Fatalf("%s was answered with %s", path, response.Status)
	}
	if response.Close {
		return "close"
	}
	return ""
}
