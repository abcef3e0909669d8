package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/seal/sealtest"
)

// awsBlock is the block of an awskms seal.
func awsBlock(name string, priority int, endpoint, key string, c sealtest.Credentials) string {
	b := fmt.Sprintf("seal \"awskms\" {\n  name = %q\n  priority = %d\n  kms_key_id = %q\n  region = %q\n  endpoint = %q\n  access_key = %q\n  secret_key = %q\n",
		name, priority, key, sealtest.MotoRegion, endpoint, c.AccessKey, c.SecretKey)
	if c.SessionToken != "" {
		b += fmt.Sprintf("  session_token = %q\n", c.SessionToken)
	}
	return b + "}\n"
}

func transitBlock(name string, priority int, v *sealtest.Transit) string {
	return fmt.Sprintf("seal \"transit\" {\n  name = %q\n  priority = %d\n  address = %q\n  token = %q\n  key_name = \"keep\"\n  mount_path = \"transit/\"\n}\n",
		name, priority, v.URL, v.Token)
}

func staticSlot(name string, priority int, lines ...string) string {
	return fmt.Sprintf("seal \"static\" {\n  name = %q\n  priority = %d\n  %s\n}\n", name, priority, strings.Join(lines, "\n  "))
}

// request is call with a token and a body, for any goroutine.
func (b *boot) request(token, method, path, body string) (status int, text string, err error) {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://keep/v1/"+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("X-Vault-Token", token)
	resp, err := b.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}

// init makes the store, without recovery shares, and returns the root token.
func (b *boot) init() string {
	b.t.Helper()
	b.until("listening", func() error {
		_, _, err := b.request("", "GET", "sys/health", "")
		return err
	})
	status, text, err := b.request("", "PUT", "sys/init", `{"recovery_shares":0,"recovery_threshold":0}`)
	var out struct {
		RootToken string `json:"root_token"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &out)
	}
	if err != nil || status != 200 {
		b.t.Fatalf("init: %d %s, %v", status, text, err)
	}
	return out.RootToken
}

func (b *boot) reload(blocks ...string) {
	b.t.Helper()
	b.configure(strings.Join(blocks, ""))
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		b.t.Fatal(err)
	}
}

// slots reads seal-status.
func (b *boot) slots() (sealed bool, slots map[string]keep.SlotStatus, err error) {
	_, text, err := b.request("", "GET", "sys/seal-status", "")
	if err != nil {
		return true, nil, err
	}
	var st struct {
		Sealed bool
		Slots  []keep.SlotStatus
	}
	if err := json.Unmarshal([]byte(text), &st); err != nil {
		return true, nil, err
	}
	slots = map[string]keep.SlotStatus{}
	for _, sl := range st.Slots {
		slots[sl.Name] = sl
	}
	return st.Sealed, slots, nil
}

// waitSlot waits until a slot is as it should be.
func (b *boot) waitSlot(name string, ok func(keep.SlotStatus) bool) {
	b.t.Helper()
	b.until("slot "+name+" as it should be", func() error {
		_, slots, err := b.slots()
		if err == nil && !ok(slots[name]) {
			err = fmt.Errorf("%+v", slots)
		}
		return err
	})
}

func (b *boot) waitState(name string, states ...keep.SlotState) {
	b.t.Helper()
	b.waitSlot(name, func(sl keep.SlotStatus) bool { return slices.Contains(states, sl.State) })
}

// opens waits until the keep is open, and tells how long after it began to answer.
func (b *boot) opens() (took time.Duration) {
	b.t.Helper()
	var listening time.Time
	b.until("open", func() error {
		sealed, slots, err := b.slots()
		if err == nil && listening.IsZero() {
			listening = time.Now()
		}
		if err == nil && sealed {
			err = fmt.Errorf("%+v", slots)
		}
		return err
	})
	return time.Since(listening)
}

// Two key services of one type: either may be away at boot, and the keep opens; when both are it says why for each, and
// opens when one is back.
func TestTwoServices(t *testing.T) {
	t.Parallel()
	one, two := sealtest.Moto(t), sealtest.Moto(t)
	p1, p2 := sealtest.NewProxy(t, one.URL), sealtest.NewProxy(t, two.URL)
	b := newBoot(t, awsBlock("east", 1, p1.URL, one.KeyARN, sealtest.Own)+awsBlock("west", 2, p2.URL, two.KeyARN, sealtest.Own))
	b.start()
	token := b.init()
	if status, text, err := b.request(token, "POST", "secret/data/x", `{"data":{"k":"v"}}`); status != 200 || err != nil {
		t.Fatal(status, text, err)
	}
	b.stop()

	const headStart = 500 * time.Millisecond
	boot := func(want string) time.Duration {
		t.Helper()
		b.start()
		took := b.opens()
		_, slots, err := b.slots()
		if err != nil || want != "" && !slots[want].Opener {
			t.Errorf("%s did not open it: %+v, %v", want, slots, err)
		}
		return took
	}
	healthy := boot("") // on a loaded machine the second may be quicker
	b.stop()
	const slack = 2 * time.Second // of such a machine
	p2.Stop()
	if took := boot("east"); took > healthy+slack {
		t.Errorf("without the second service: %v, with it %v", took, healthy)
	}
	b.stop()
	p2.Start()
	p1.Stop()
	if took := boot("west"); took > headStart+healthy+slack {
		t.Errorf("without the first service: %v, with it %v", took, healthy)
	} else {
		t.Logf("open %v after listening with both services, %v without the first", healthy.Round(time.Millisecond), took.Round(time.Millisecond))
	}
	b.stop()

	p2.Stop()
	b.start()
	for _, name := range []string{"east", "west"} {
		b.waitSlot(name, func(sl keep.SlotStatus) bool { return sl.Class == "unreachable" && sl.Error != "" && sl.Hint != "" })
	}
	if sealed, _, err := b.slots(); err != nil || !sealed {
		t.Errorf("sealed %t, %v", sealed, err)
	}
	for _, name := range []string{"east", "west"} {
		if !strings.Contains(b.log(), "slot="+name+" type=awskms class=unreachable") {
			t.Errorf("the log does not say why %s did not open", name)
		}
	}
	p2.Start()
	back := time.Now()
	b.opens()
	if took := time.Since(back); took > 5*time.Second+slack {
		t.Errorf("%v after a service was back", took)
	}
	if status, text, err := b.request(token, "GET", "secret/data/x", ""); status != 200 || err != nil {
		t.Error(status, text, err)
	}
}

// settled waits until the keep says that no slot is pending.
func (b *boot) settled() {
	b.t.Helper()
	b.until("settled", func() error {
		_, text, err := b.request("", "GET", "sys/seal-status", "")
		if err == nil && !strings.Contains(text, `"settled":true`) {
			err = errors.New(text)
		}
		return err
	})
}

// A boot with three slots asks the first service what a boot with one asks it. The others are looked at when the keep is
// open, as the first one is then.
func TestThreeSlotsCostLikeOne(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/cccccccc-1111-2222-3333-44444444444"
	var kms [3]*sealtest.KMS
	var blocks string
	for i := range kms {
		kms[i] = sealtest.NewKMS(t)
		kms[i].AddKey(arn + fmt.Sprint(i))
		blocks += awsBlock(fmt.Sprint("slot", i), i+1, kms[i].URL, arn+fmt.Sprint(i), sealtest.Own)
		if i == 1 {
			continue
		}
		b := newBoot(t, blocks)
		b.start()
		b.init()
		b.stop()
		for _, k := range kms[:i+1] {
			k.Requests()
		}
		b.start()
		took := b.opens()
		b.settled()
		opening, look := []string{"DescribeKey", "Decrypt"}, []string{"DescribeKey", "Decrypt", "DescribeKey"}
		for n, k := range kms[:i+1] {
			want := look
			if n == 0 {
				want = slices.Concat(opening, look)
			}
			if got := k.Requests(); !slices.Equal(got, want) {
				t.Errorf("%d slots: service %d was asked %q, want %q", i+1, n, got, want)
			}
		}
		t.Logf("%d slots: open %v after listening", i+1, took.Round(time.Millisecond))
		b.stop()
	}
}

// Every key of a service may move: the alias to another key, the transit key to another version, the static key to
// another one. The keep follows by itself, says so, and needs the old ones no more.
func TestFollowsItsKeys(t *testing.T) {
	t.Parallel()
	m, v := sealtest.Moto(t), sealtest.NewTransit(t)
	v.AddKey("keep")
	m.Call(sealtest.Own, "CreateAlias", map[string]any{"AliasName": "alias/keep", "TargetKeyId": m.KeyID}, nil)
	const first, second = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
	services := awsBlock("cloud", 1, m.URL, "alias/keep", sealtest.Own) + transitBlock("vault", 2, v)
	b := newBoot(t, services+staticSlot("file", 3, `current_key = "`+first+`"`, `current_key_id = "first"`))
	b.start()
	token := b.init()
	b.settled()
	next, arn := m.CreateKey(sealtest.Own)
	m.Call(sealtest.Own, "UpdateAlias", map[string]any{"AliasName": "alias/keep", "TargetKeyId": next}, nil)
	v.AddKey("keep")

	// The restarted keep follows before it calls itself settled.
	b.stop()
	b.start()
	b.opens()
	b.settled()
	_, slots, err := b.slots()
	for name, id := range map[string]string{"cloud": arn, "vault": "vault:v2"} {
		if err != nil || slots[name].KeyID != id || slots[name].KeyInForce != id {
			t.Errorf("settled, and %s is %+v, %v\n%s", name, slots[name], err, b.log())
		}
	}
	b.reload(services, staticSlot("file", 3, `current_key = "`+second+`"`, `current_key_id = "second"`, `previous_key = "`+first+`"`, `previous_key_id = "first"`))
	b.waitSlot("file", func(sl keep.SlotStatus) bool { return sl.KeyID == "second" && sl.State == keep.SlotReady })

	_, metrics := b.get("sys/metrics")
	for _, name := range []string{"cloud", "vault", "file"} {
		if !strings.Contains(metrics, "sealkeep_slot_rewraps_total{slot=\""+name+"\"} 1\n") {
			t.Errorf("the metrics do not tell of %s", name)
		}
		if n := len(regexp.MustCompile(`msg="wrapped the root key anew" slot=`+name+` `).FindAllString(b.log(), -1)); n != 1 {
			t.Errorf("the log tells of %s %d times", name, n)
		}
	}

	m.Call(sealtest.Own, "DisableKey", map[string]any{"KeyId": m.KeyID}, nil)
	v.SetMinVersion("keep", 2)
	b.configure(services + staticSlot("file", 3, `current_key = "`+second+`"`, `current_key_id = "second"`))
	b.stop()
	b.start()
	b.opens()
	for _, name := range []string{"cloud", "vault", "file"} {
		if status, text, err := b.request(token, "POST", "sys/slots/"+name+"/verify", ""); status != 200 || err != nil || !strings.Contains(text, `"opened":true`) {
			t.Errorf("%s without the old key: %d %s, %v", name, status, text, err)
		}
	}
}

// A keep moves from one key service to the next, to another account of the same one, to other types and back, while it
// is written to: nothing fails, nothing is lost, and the service that was left may end.
func TestLiveMigration(t *testing.T) {
	t.Parallel()
	one, two, v := sealtest.Moto(t), sealtest.Moto(t), sealtest.NewTransit(t)
	v.AddKey("keep")
	role := two.AssumeRole("arn:aws:iam::999988887777:role/keep")
	_, there := two.CreateKey(role)
	if !strings.Contains(there, ":999988887777:") {
		t.Fatalf("the role's key is %s", there)
	}
	p1, p2 := sealtest.NewProxy(t, one.URL), sealtest.NewProxy(t, two.URL)
	stops := []struct {
		name, block string
		stop, start func()
	}{
		{"own", awsBlock("own", 1, p1.URL, one.KeyARN, sealtest.Own), p1.Stop, p1.Start},
		{"role", awsBlock("role", 2, p2.URL, there, role), p2.Stop, p2.Start},
		{"vault", transitBlock("vault", 3, v), v.Stop, v.Start},
		{"file", staticSlot("file", 4, `current_key = "0123456789abcdef0123456789abcdef"`, `current_key_id = "k"`), func() {}, func() {}},
		{"own", awsBlock("own", 1, p1.URL, one.KeyARN, sealtest.Own), p1.Stop, p1.Start},
	}
	b := newBoot(t, stops[0].block)
	b.start()
	token := b.init()
	var mu sync.Mutex
	acked := map[string]string{}
	for i := 1; i < len(stops); i++ {
		from, to := stops[i-1], stops[i]
		to.start()
		stop, written := make(chan struct{}), 0
		var load sync.WaitGroup
		for w := range 4 {
			load.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					path, value := fmt.Sprintf("move%d/w%d/%d", i, w, n), fmt.Sprint(i, w, n)
					status, text, err := b.request(token, "POST", "secret/data/"+path, `{"data":{"v":"`+value+`"}}`)
					if status != 200 || err != nil {
						t.Errorf("writing %s on the way from %s to %s: %d %s %v", path, from.name, to.name, status, text, err)
						return
					}
					mu.Lock()
					acked[path] = value
					written++
					mu.Unlock()
				}
			})
		}
		more := func() { // of the load goes on while something has changed
			t.Helper()
			mu.Lock()
			before := written
			mu.Unlock()
			b.until("written to", func() error {
				mu.Lock()
				defer mu.Unlock()
				if written < before+20 && !t.Failed() {
					return errors.New("no writes")
				}
				return nil
			})
		}
		more()
		b.reload(from.block, to.block)
		b.waitState(to.name, keep.SlotReady)
		more()
		b.reload(to.block)
		b.waitState(from.name, keep.SlotOrphaned)
		if status, text, err := b.request(token, "DELETE", "sys/slots/"+from.name, ""); status != 200 || err != nil {
			t.Fatalf("removing %s: %d %s %v", from.name, status, text, err)
		}
		more()
		close(stop)
		load.Wait()
		from.stop()
		b.stop()
		b.start()
		b.opens()
		if _, slots, err := b.slots(); err != nil || len(slots) != 1 || !slots[to.name].Opener {
			t.Fatalf("after moving to %s: %+v, %v", to.name, slots, err)
		}
		for path, want := range acked {
			if status, text, err := b.request(token, "GET", "secret/data/"+path, ""); status != 200 || err != nil || !strings.Contains(text, `"v":"`+want+`"`) {
				t.Fatalf("%s, written on the way: %d %s %v", path, status, text, err)
			}
		}
		clear(acked)
		t.Logf("%s to %s: %d writes", from.name, to.name, written)
	}
	b.stop()
	if out, err := b.command("operator", "storage", "check", "-config="+b.file("keep.hcl")).CombinedOutput(); err != nil {
		t.Errorf("the store is not clean: %v\n%s", err, out)
	}
}
