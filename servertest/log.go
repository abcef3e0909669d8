package servertest

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"
)

// A Log collects a log.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// Take empties it and returns what it had.
func (l *Log) Take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A Clock is the present time of a fixture.
type Clock struct {
	offset  atomic.Int64
	stopped atomic.Int64 // ns since 1970; 0: it runs
}

// Now is the time.
func (c *Clock) Now() time.Time {
	at := time.Now()
	if stopped := c.stopped.Load(); stopped != 0 {
		at = time.Unix(0, stopped)
	}
	return at.Add(time.Duration(c.offset.Load()))
}

// Add puts the clock forward.
func (c *Clock) Add(d time.Duration) { c.offset.Add(int64(d)) }

// Stop has it stand still.
func (c *Clock) Stop() { c.stopped.Store(time.Now().UnixNano()) }
