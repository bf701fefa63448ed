// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/credentials"
)

// expiring closes each connection when the client's certificate ends, which is otherwise
// looked at in the handshake alone, and a connection may last for months. To end the stream is not enough: Envoy
// would begin the next one on the same connection, and so with the same certificate.
type expiring struct {
	credentials.TransportCredentials
	log logr.Logger
}

// ServerHandshake is that of the credentials, with the end of the connection set.
func (e expiring) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := e.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return conn, info, err
	}
	tls, ok := info.(credentials.TLSInfo)
	if !ok || len(tls.State.VerifiedChains) == 0 {
		return conn, info, nil // refused when its stream begins
	}
	end := tls.State.VerifiedChains[0][0].NotAfter
	timer := time.AfterFunc(time.Until(end), func() {
		e.log.Info("Closed a connection whose certificate has ended", "address", raw.RemoteAddr().String())
		_ = raw.Close()
	})
	return &expiringConn{Conn: conn, timer: timer}, identity{TLSInfo: tls, connection: raw}, nil
}

// identity is what a handshake showed, on a connection that can be closed for it.
type identity struct {
	credentials.TLSInfo
	connection net.Conn
}

// farewell is how long a proxy that is refused has to read why.
const farewell = time.Second

// dismiss closes the connection of a proxy whose certificate is not the one it needs: a proxy that
// has got another one in the meantime shows it in a new handshake only.
func (i identity) dismiss() {
	time.AfterFunc(farewell, func() { _ = i.connection.Close() })
}

// Clone gives credentials of their own.
func (e expiring) Clone() credentials.TransportCredentials {
	return expiring{TransportCredentials: e.TransportCredentials.Clone(), log: e.log}
}

// expiringConn forgets its timer when it is closed earlier.
type expiringConn struct {
	net.Conn
	timer *time.Timer
}

// Close ends the connection.
func (c *expiringConn) Close() error {
	c.timer.Stop()
	return c.Conn.Close()
}
