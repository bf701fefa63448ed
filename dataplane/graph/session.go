// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package graph

import (
	"encoding/hex"
	"hash/fnv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/utils"
)

// Session keeps a client on the endpoint of a backend that served it first (GEP-1619).
type Session struct {
	// Header is the name of the header that carries the session, empty for a cookie.
	Header string
	// Cookie is the name of the cookie, Path what it is sent for.
	Cookie, Path string
	// Lifetime is how long the session lasts; 0 is as long as the browser keeps the cookie.
	Lifetime time.Duration
}

// readSession reads how the sessions of an object are kept. Its name makes the cookie's
// where none is given, so that two backends never share one.
func readSession(field string, owner types.NamespacedName, src *gwv1.SessionPersistence) (*Session, []Problem) {
	var problems []Problem
	bad := func(at, format string, args ...any) {
		problems = append(problems, xbackendInvalid(field+at+" "+format, args...))
	}
	lifetime := time.Duration(0)
	if src.AbsoluteTimeout != nil {
		parsed, err := utils.ParseDuration(string(*src.AbsoluteTimeout))
		if err != nil || *parsed < time.Second {
			bad(".absoluteTimeout", "is %q: write a duration of at least 1s, such as 1h", *src.AbsoluteTimeout)
		} else {
			lifetime = *parsed
		}
	}
	out := &Session{Lifetime: lifetime}
	switch t := deref(src.Type, gwv1.CookieBasedSessionPersistence); {
	case t == gwv1.HeaderBasedSessionPersistence && (src.Header == nil || len(headerNameProblems("", string(src.Header.Name))) > 0):
		bad(".header.name", "is missing or cannot be used: write the name of a header such as X-Session")
	case t == gwv1.HeaderBasedSessionPersistence:
		out.Header = string(src.Header.Name)
		if lifetime > 0 {
			bad(".absoluteTimeout", "needs type Cookie: remove it")
		}
	case t == gwv1.CookieBasedSessionPersistence:
		hash := fnv.New32a()
		_, _ = hash.Write([]byte(owner.String()))
		out.Cookie, out.Path = "headgate-"+hex.EncodeToString(hash.Sum(nil)), "/"
		permanent := false
		if c := src.Cookie; c != nil {
			out.Cookie, out.Path = string(deref(c.Name, gwv1.CookieName(out.Cookie))), deref(c.Path, "/")
			permanent = deref(c.LifetimeType, gwv1.SessionCookieLifetimeType) == gwv1.PermanentCookieLifetimeType
		}
		switch {
		case !isToken(out.Cookie):
			bad(".cookie.name", "is %q, which is not the name of a cookie", out.Cookie)
		case !strings.HasPrefix(out.Path, "/") || !isPath(out.Path) || strings.ContainsAny(out.Path, ";,"):
			bad(".cookie.path", "is %q: write a path that begins with /", out.Path)
		case permanent && src.AbsoluteTimeout == nil:
			bad(".absoluteTimeout", "is missing: cookie.lifetimeType Permanent needs it")
		case !permanent && src.AbsoluteTimeout != nil:
			bad(".absoluteTimeout", "needs cookie.lifetimeType Permanent: write that, or remove it")
		}
	default:
		bad(".type", "is %q: write Cookie or Header", t)
	}
	return out, problems
}
