// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"time"
)

// smoke is the app as its own test: with SMOKE=url it asks a version a few times
// and fails when one answer is no 200. An answer that does not come at all, as
// from a Service that has no endpoint yet, is asked for again.
func smoke(url string) error {
	client := &http.Client{Timeout: 2 * time.Second}
	for asked, began := 0, time.Now(); asked < 20; {
		resp, err := client.Get(url)
		switch {
		case err != nil && time.Since(began) > 20*time.Second:
			return fmt.Errorf("asking %s: %w", url, err)
		case err != nil:
			time.Sleep(200 * time.Millisecond)
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answered %s", url, resp.Status)
		}
		asked++
	}
	return nil
}
