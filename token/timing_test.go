package token_test

import (
	"errors"
	"math"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/access"
)

const tokenAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

// wrongFrom returns a token that has the first n characters of a right one, and
// not the next.
func wrongFrom(right string, n int) string {
	b := []byte(right)
	for i := n; i < len(b); i++ {
		for b[i] == right[i] && (i == n || rand.IntN(2) == 0) {
			b[i] = tokenAlphabet[rand.IntN(len(tokenAlphabet))]
		}
	}
	return string(b)
}

// What a look-up compares are keyed hashes: of two tokens that differ at their
// ends they differ as much as those of any two.
func TestLookupSeesHashesOnly(t *testing.T) {
	f := fresh(t)
	u := f.Unsealed()
	id := func(token string) access.ID {
		id, err := u.TokenID(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	right := id(f.Root)
	for _, n := range []int{4, 17, len(f.Root) - 1} {
		wrong := make(map[string]access.ID) // of the last n there are 31 only
		for range 1000 {
			token := wrongFrom(f.Root, n)
			wrong[token] = id(token)
		}
		first := 0
		for _, w := range wrong {
			differ := 0
			for i := range w {
				differ += bits.OnesCount8(w[i] ^ right[i])
			}
			if differ < 128-7*8 || differ > 128+7*8 { // seven standard deviations
				t.Errorf("with %d characters right %d bits of 256 differ", n, differ)
			}
			if w[0] == right[0] {
				first++
			}
		}
		if first > 25 { // at most four are to be expected
			t.Errorf("with %d characters right %d of %d hashes begin like that of the right one", n, first, len(wrong))
		}
	}
}

// The time that a wrong token takes does not depend on how much of it is right.
// Two kinds of wrong tokens are looked up in a random order, and the means are
// compared by Welch's t, without the slowest tenth. A difference that is there is
// there every time; that of a noisy machine is not, so one good round of five is
// enough. As a check of the measure, a look-up that takes 200 ns more for each right
// character must fail every round.
func TestWrongTokenTiming(t *testing.T) {
	f := fresh(t)
	right := f.children(t, f.Token(t, `{"policies":["root"]}`), 1000, 1)
	u := f.Unsealed()
	use := func(_, token string) {
		if _, err := u.Use(t.Context(), token, netip.Addr{}, true); !errors.Is(err, access.ErrDenied) {
			t.Fatal(err)
		}
	}
	for _, token := range right { // they are in memory now
		if _, err := u.Use(t.Context(), token, netip.Addr{}, true); err != nil {
			t.Fatal(err)
		}
	}
	leaky := func(like, token string) {
		use(like, token)
		n := 0
		for like[n] == token[n] {
			n++
		}
		for began := time.Now(); time.Since(began) < time.Duration(n)*200*time.Nanosecond; {
		}
	}
	compare := func(look func(like, token string), a, b int) (welch float64) {
		const samples = 4000
		var times [2][]float64
		for len(times[0]) < samples || len(times[1]) < samples {
			which := rand.IntN(2)
			like := right[rand.IntN(len(right))] // each time other tokens: where their records would lie takes time, too
			token := wrongFrom(like, [2]int{a, b}[which])
			began := time.Now()
			look(like, token)
			times[which] = append(times[which], float64(time.Since(began)))
		}
		var mean, variance [2]float64
		for i := range times {
			slices.Sort(times[i])
			fast := times[i][:len(times[i])*9/10]
			for _, x := range fast {
				mean[i] += x / float64(len(fast))
			}
			for _, x := range fast {
				variance[i] += (x - mean[i]) * (x - mean[i]) / float64(len(fast)-1)
			}
			variance[i] /= float64(len(fast))
		}
		welch = (mean[0] - mean[1]) / math.Sqrt(variance[0]+variance[1])
		t.Logf("%.0f ns and %.0f ns: t = %.1f", mean[0], mean[1], welch)
		return math.Abs(welch)
	}
	const rounds, limit = 5, 4.5
	same := func(look func(like, token string), a, b int) bool {
		for range rounds {
			if compare(look, a, b) < limit {
				return true
			}
		}
		return false
	}
	nothing, half, most := len("hvs."), 17, access.RandomToken-1
	for _, n := range []int{half, most} {
		if !same(use, nothing, n) {
			t.Errorf("a token of which %d characters are right takes another time than one of which none is", n)
		}
	}
	if same(leaky, nothing, most) {
		t.Error("the measure would not find a look-up that depends on the token")
	}
}
