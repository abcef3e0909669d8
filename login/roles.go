package login

import (
	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// Roles is the API of the roles of a login method: R is one of them, In what a
// request says of it.
type Roles[R, In any] struct {
	Path    string // "role": below the mount and, as a folder, in the store
	Creates bool   // writing a role that is not there takes the capability create
	Help    string // what a role is, in one sentence

	New   func(name string) *R
	View  func(*R) map[string]any
	Edit  func(r *api.Request, in *In, role *R) (warnings []string, err error)
	Check func(*R) error
}

const roleKind = "a record of a login method"

// Routes are those of the list of roles and of one of them.
func (m *Roles[R, In]) Routes() []api.Route {
	one := api.Route{
		Path: m.Path + "/{name...}", Help: m.Help, Folded: true, Settings: true,
		Ops: map[api.Op]api.Handler{api.Read: api.View(m.read).Answers(m.View(m.New(""))), api.Write: api.Update(m.write), api.Delete: api.Update(m.remove)},
	}
	if m.Creates {
		one.Exists = func(r *api.Request, tx *storage.Tx) (bool, error) {
			role, err := m.Get(tx, r.Prefix(), r.Param("name"))
			return role != nil, err
		}
	}
	list := api.Route{Path: m.Path, Help: "The names of the roles.", Ops: map[api.Op]api.Handler{api.List: List(m.Path)}}
	return []api.Route{list, one}
}

// List answers with the names of the records in a folder of the mount.
func List(folder string) api.Handler {
	return api.View(func(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
		return api.Keys(tx.List(r.Prefix() + "/" + folder))
	})
}

// Get reads a role, nil when there is none.
func (m *Roles[R, In]) Get(tx *storage.Tx, folder, name string) (*R, error) {
	path, err := Path(folder+"/"+m.Path, "role", name)
	if err != nil {
		return nil, err
	}
	role := new(R)
	found, err := ReadRecord(tx, path, roleKind, role)
	if err != nil || !found {
		return nil, err
	}
	return role, nil
}

// Renew reads the role that a token is renewed by.
func (m *Roles[R, In]) Renew(tx *storage.Tx, mount *api.Mount, t *access.Token) (*R, error) {
	role, err := m.Get(tx, mount.Prefix(), t.Login)
	if err == nil && role == nil {
		err = api.Invalid.Errorf("the role %q, by which the token was made, does not exist any more: it is not renewed", t.Login)
	}
	return role, err
}

func (m *Roles[R, In]) read(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	role, err := m.Get(tx, r.Prefix(), r.Param("name"))
	if err == nil && role == nil {
		err = api.ErrAbsent
	}
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: m.View(role)}, nil
}

// write writes a role; what the request does not name stays as it is.
func (m *Roles[R, In]) write(r *api.Request, tx *storage.Tx, in *In) (api.Answer, error) {
	name := r.Param("name")
	role, err := m.Get(tx, r.Prefix(), name)
	if err != nil {
		return api.Answer{}, err
	}
	if role == nil {
		role = m.New(name)
	}
	warnings, err := m.Edit(r, in, role)
	if err == nil {
		err = m.Check(role)
	}
	if err != nil {
		return api.Answer{}, err
	}
	path, err := Path(r.Prefix()+"/"+m.Path, "role", name)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Warnings: warnings}, WriteRecord(tx, path, roleKind, role)
}

// remove deletes a role. Its tokens stay, but are renewed no more.
func (m *Roles[R, In]) remove(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	path, err := Path(r.Prefix()+"/"+m.Path, "role", r.Param("name"))
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{}, tx.Delete(path)
}
