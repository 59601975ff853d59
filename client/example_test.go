package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/kithdb/kith/client"
)

func Example() {
	ctx := context.Background()
	c, err := client.Dial(ctx, shared.addresses())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	if _, err := c.Put(ctx, []byte("greeting"), []byte("hello")); err != nil {
		log.Fatal(err)
	}
	got, err := c.Get(ctx, []byte("greeting"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(got.Value))
	// Output: hello
}

// The three outcomes of a write that has failed.
func ExampleUnknown() {
	ctx := context.Background()
	c, err := client.Dial(ctx, shared.addresses(), client.WithTimeout(2*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	_, err = c.Put(ctx, []byte("account:7"), []byte("100"), client.All)
	switch {
	case err == nil:
		fmt.Println("done: on the disks of all homes")
	case client.Unknown(err):
		fmt.Println("some homes may have it: read the key, or write again")
	default:
		fmt.Println("refused: nothing was written")
	}
	// Output: done: on the disks of all homes
}

// A context lets a writer replace exactly what it has read: what others write
// meanwhile survives, as a sibling.
func ExampleWithContext() {
	ctx := context.Background()
	c, err := client.Dial(ctx, shared.addresses())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	cart := []byte("cart:42")
	if _, err := c.Put(ctx, cart, []byte("bread")); err != nil {
		log.Fatal(err)
	}
	seen, err := c.Get(ctx, cart)
	if err != nil {
		log.Fatal(err)
	}
	// Two writers have read the same, and do not know of each other.
	for _, item := range []string{"bread,butter", "bread,jam"} {
		if _, err := c.Put(ctx, cart, []byte(item), client.WithContext(seen.Context)); err != nil {
			log.Fatal(err)
		}
	}
	// Nothing is lost: whoever reads next merges the two, and writes the merge
	// with the context of what was merged.
	both, err := c.Get(ctx, cart)
	if err != nil {
		log.Fatal(err)
	}
	items := map[string]bool{}
	for _, s := range both.Siblings {
		for _, item := range strings.Split(string(s.Value), ",") {
			items[item] = true
		}
	}
	fmt.Println(len(both.Siblings), "siblings with", len(items), "items")
	if _, err := c.Put(ctx, cart, []byte("bread,butter,jam"), client.WithContext(both.Context)); err != nil {
		log.Fatal(err)
	}
	merged, err := c.Get(ctx, cart)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(merged.Siblings), "sibling:", string(merged.Value))
	// Output:
	// 2 siblings with 3 items
	// 1 sibling: bread,butter,jam
}

func ExampleClient_Get_notFound() {
	ctx := context.Background()
	c, err := client.Dial(ctx, shared.addresses())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	_, err = c.Get(ctx, []byte("nobody wrote this"))
	fmt.Println(errors.Is(err, client.ErrNotFound))
	fmt.Println(err)
	// Output:
	// true
	// get "nobody wrote this": not found
}

func ExampleClient_PutAll() {
	ctx := context.Background()
	c, err := client.Dial(ctx, shared.addresses())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	for i, r := range c.PutAll(ctx, []client.Put{
		{Key: []byte("{user:1}:name"), Value: []byte("Ada")},
		{Key: []byte("{user:1}:town"), Value: []byte("London")},
		{Key: []byte(""), Value: []byte("a key has at least one byte")},
	}) {
		fmt.Println(i, r.Err)
	}
	// Output:
	// 0 <nil>
	// 1 <nil>
	// 2 put: key is empty: bad request
}

func ExampleClient_Scan() {
	ctx := context.Background()
	c, err := client.Dial(ctx, shared.addresses())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	for _, name := range []string{"{fruit}:pear", "{fruit}:apple", "{fruit}:plum"} {
		if _, err := c.Put(ctx, []byte(name), nil); err != nil {
			log.Fatal(err)
		}
	}
	for item, err := range c.Scan(ctx, []byte("{fruit}:"), client.KeysOnly()) {
		if err != nil {
			log.Fatal(err) // what was seen is not all there is
		}
		fmt.Println(string(item.Key))
	}
	// Output:
	// {fruit}:apple
	// {fruit}:pear
	// {fruit}:plum
}

// A value that lives for a while: then its key reads as if it had been deleted.
func ExampleWithTTL() {
	ctx := context.Background()
	c, err := client.Dial(ctx, shared.addresses())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	if _, err := c.Put(ctx, []byte("session:7"), []byte("open"), client.WithTTL(30*time.Minute)); err != nil {
		log.Fatal(err)
	}
	got, err := c.Get(ctx, []byte("session:7"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(got.Value), "for", time.Until(got.Expires).Round(time.Minute))
	// Output: open for 30m0s
}

// What every home holds of a key, and why they differ if they do.
func ExampleClient_Inspect() {
	ctx := context.Background()
	c, err := client.Dial(ctx, shared.addresses())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	if _, err := c.Put(ctx, []byte("looked:at"), []byte("value"), client.All); err != nil {
		log.Fatal(err)
	}
	seen, err := c.Inspect(ctx, []byte("looked:at"))
	if err != nil {
		log.Fatal(err)
	}
	for _, home := range seen.Copies {
		fmt.Println(home.Found, len(home.Siblings), home.Siblings[0].Size)
	}
	fmt.Println(strings.Join(seen.Why, "\n"))
	// Output:
	// true 1 5
	// true 1 5
	// true 1 5
	// all 3 homes hold the same
}
