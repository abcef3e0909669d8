package storage

import "sync"

// kept is what the rooms of a keep have in memory while its store is unsealed.
type kept struct{ values sync.Map }

// Kept returns the value of a key, which it makes unless it is there. It is for what
// was made of records and must not outlive them in memory: when the store is sealed,
// it lets go of all such values. Keys are of a type of the caller's own; the values
// are for all transactions at once. It costs a look-up in memory.
func (t *Tx) Kept(key any, make func() any) any {
	var k *kept
	if t.store != nil {
		k = t.store.state.Load().kept
	}
	if k == nil { // it is being sealed, or made
		return make()
	}
	value, ok := k.values.Load(key)
	if !ok {
		value, _ = k.values.LoadOrStore(key, make())
	}
	return value
}
