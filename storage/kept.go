package storage

import "sync"

// kept holds values that users of the store cache while it is unsealed.
type kept struct{ values sync.Map }

// Kept returns the cached value of a key, calling make if there is none. It is for
// values derived from records that must not stay in memory once the store is sealed:
// sealing drops them all. Keys have a type of the caller's own; all transactions
// share the values. It costs a look-up in memory.
func (t *Tx) Kept(key any, make func() any) any {
	var k *kept
	if t.store != nil {
		k = t.store.state.Load().kept
	}
	if k == nil { // the store is being sealed or created
		return make()
	}
	value, ok := k.values.Load(key)
	if !ok {
		value, _ = k.values.LoadOrStore(key, make())
	}
	return value
}
