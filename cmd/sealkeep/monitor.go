package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

func monitorCommands() []command {
	return []command{{"monitor", "", 0, 0, client, "show the log of a running keep", `Prints what the server logs from now on, until Ctrl-C, or until the keep is sealed, the token ends or the server stops. The
level is that of this command, whatever that of the server's own log is. Who cannot keep up misses lines, and is told how many.
The token needs sudo on sys/monitor.
Exit code: 0 the log ended, or Ctrl-C; 2 an error of the keep.`, monitor}}
}

func monitor(f *flag.FlagSet) action {
	level := f.String("log-level", "info", "trace, debug, info, warn or error")
	format := f.String("log-format", "standard", "standard or json")
	return func(c *cli, _ []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		req, err := a.request(c, http.MethodGet, "sys/monitor", url.Values{"log_level": {*level}, "log_format": {*format}}, nil)
		if err != nil {
			return err
		}
		endless := *a.http
		endless.Timeout = 0
		resp, err := endless.Do(req)
		if err != nil {
			return coded{a.explain(err), 2}
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // whatever can be read of it says why
			return coded{a.refusal(&apiError{method: req.Method, url: req.URL.String(), code: resp.StatusCode, body: body}), 2}
		}
		if _, err := io.Copy(c.stdout, resp.Body); err != nil && c.Err() == nil { // not Ctrl-C
			return coded{fmt.Errorf("the log was cut off: %w", err), 2}
		}
		return nil
	}
}
