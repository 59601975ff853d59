package rpc

// Limit gives the bounds of a class. Any goroutine may call it.
func (m *Mux) Limit(class Class) Limit { return m.class[class].limit }

// Classes lists all classes.
func Classes() []Class { return []Class{ClassClient, ClassHome, ClassControl} }
