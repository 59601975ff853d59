package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/kithdb/kith/client"
)

func (a *app) deleteCommand() *cobra.Command {
	var w levelFlag
	var token string
	var sloppy bool
	cmd := &cobra.Command{
		Use:     "delete KEY",
		Aliases: []string{"del"},
		Short:   "Delete a key",
		Long: `Delete a key. It is done when the homes that --w asks for have the deletion on
disk. Deleting a key that has no value is done all the same. --sloppy is as with
put.`,
		Example: `  kith delete greeting`,
		Args:    a.want(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.write(cmd.Context(), token, func(ctx context.Context, c *client.Client, opts ...client.CallOption) (client.Written, error) {
				return c.Delete(ctx, []byte(args[0]), opts...)
			}, "delete", args[0], w, writeOptions(new(ttlFlag), sloppy))
		},
	}
	addWriteFlags(cmd, &w, &token, &sloppy)
	return cmd
}
