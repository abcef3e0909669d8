// Package audit records who did what: every request that an open keep serves or
// refuses, and its answer, in one or more devices.
//
// A [Log] holds the devices. An [Entry] is a request and an [Outcome] its answer,
// both in the clear; each device hides the secrets in them with an HMAC under a
// salt of its own before it writes a line. Each device gets every record, and one
// that works is enough: if all fail, the error is [ErrFailed] and the caller must
// not carry out the request, or must withhold the answer. A [Verifier] checks a
// log afterwards.
//
// # Lines
//
// Each line is a JSON object in Vault's form, between fields of sealkeep's own:
//
//	{"seq":7,"prev":"<hash of line 6>","time":...,
//	 "type":"request","auth":{...},"request":{...,"data":{...}},"error":...,"hash":"<hash>"}
//	{"seq":8,"prev":"<hash of line 7>","time":...,
//	 "type":"response","auth":{...},"request":{...},"response":{...,"data":{...}},"error":...,"hash":"<hash>"}
//	{"seq":9,"prev":"<hash of line 8>","time":...,
//	 "type":"device","device":{"path":"file/","event":"opened","lost":3,"cut":15,"found":...},"hash":"<hash>"}
//
// The hash is the SHA-256, in hex, of the line's bytes up to its own field; prev
// is the hash of the line before, 64 zeros in line 1. So the log alone shows whether
// a line was changed, removed, moved or repeated. It cannot show whether its end was
// cut off: for that, the store keeps the number and hash of the last line, written in
// the background after the file was flushed, and when the keep is sealed. A line of
// type "device" says that the device was opened, how many records were lost before,
// how many bytes of a partial line were cut off, and what is wrong with the lines
// before it.
//
// # Cost
//
// A record costs one write per device, under the device's lock, two encodings to
// JSON, an HMAC for each hidden text and a SHA-256 of the line: the two lines of a
// read take about 50 allocations and 25 µs, including the writes to a file
// (BenchmarkLog). No record waits for a flush. A regular file is as slow as its disk;
// a pipe, standard output, the journal or a socket delays a request by at most 2 s,
// or the socket's write_timeout. A device that fails or is too slow is skipped from
// then on, so that later requests do not wait for it; [Log.Run] tries it again after
// 250 ms, then after twice as long each time, up to 5 s. A partial line on a full
// disk is cut off again.
//
// # In the store
//
// The records are in the folder access, beside those of tokens:
//
//	access/audit-devices         JSON {"version":1,"data":[...]}: devices made over the API
//	access/audit-salt/<path>     JSON {"version":1,"data":...}: 32 random bytes of a device, in base64
//	access/audit-head/<path>     JSON {"version":1,"data":{"seq":...,"hash":...}}: the last line of its log
package audit

import "errors"

var (
	// ErrFailed means that there are audit devices but none of them could write.
	ErrFailed = errors.New("no audit device succeeded")
	// ErrInvalid means that a device is misconfigured; the text says what to change.
	ErrInvalid = errors.New("invalid")
)
