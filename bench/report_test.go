package main

import (
	"bufio"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	r := report{Others: []float64{0.01}}
	r.add(row{Figure: "boot", Unit: "ms", Samples: []float64{26, 24, 90}, Max: 25})
	r.add(row{Figure: "read", Unit: "requests/s", Samples: []float64{10, 50000, 40000}, Against: []float64{80000}, Limit: "net/http", MinRatio: 0.5})
	r.add(row{Figure: "read again", Samples: []float64{39999}, Against: []float64{80000}, Limit: "net/http", MinRatio: 0.5})
	r.add(row{Figure: "growth", Unit: "ms", Samples: []float64{0.13, 0.14}, Against: []float64{0.1}, Limit: "1,000 secrets", MaxRatio: 1.3})
	r.add(row{Figure: "size", Unit: "MiB", Samples: []float64{1234567}})
	r.add(row{Figure: "CPU, unknown", Unit: "µs", Samples: []float64{0, 0}, Max: 30})
	got := r.table()
	for _, want := range []string{
		"| boot | 26 ms |  |  | 25 ms or less | **missed** |\n",
		"| read | 40,000 requests/s | 80,000 (net/http) | 0.5 | ratio 0.5 or more | met |\n",
		"| read again | 39,999 | 80,000 (net/http) | 0.5 | ratio 0.5 or more | **missed** |\n",
		"| growth | 0.135 ms | 0.1 (1,000 secrets) | 1.35 | ratio 1.3 or less | **missed** |\n",
		"| size | 1,234,567 MiB |  |  |  |  |\n",
		"\n1 of 4 targets met.\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "unknown") {
		t.Errorf("a row without a value in\n%s", got)
	}
}

func TestReadAnswer(t *testing.T) {
	r := bufio.NewReader(strings.NewReader("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nA: b\r\n\r\nabcHTTP/1.1 204 No Content\r\n\r\n" +
		"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx"))
	for _, want := range []string{"", "", `answer "HTTP/1.1 404 Not Found"`, "EOF"} {
		got := ""
		if err := readAnswer(r); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
