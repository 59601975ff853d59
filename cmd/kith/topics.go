package main

import "github.com/spf13/cobra"

// Help topics: commands that do nothing but explain.

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "Exit statuses and what they promise",
		Long: `Exit statuses:

    0  done
    1  unexpected
    2  usage or bad input: nothing was sent, or the cluster refused it as wrong
    3  the key has no value
    4  precondition failed: the key takes only writes with a --context
    5  outcome unknown: the write, or the change of the ring, may or may not have
       been done, and may still show up; look, or do it again
    6  refused or unavailable: nothing was written or changed
    7  not allowed (kept for authentication)
    8  overloaded: nothing was done, try again later
    9  a check has failed: a promise of a simulated run is broken, a repair could
       not compare all copies, doctor has found something, or what --wait waited
       for was changed meanwhile
  124  --wait has timed out
  130  interrupted

Import ends with 5 if any record is unknown, else with 6 if any was refused; with
2 if its input could not be read to the end.`,
	}
}

func recordsTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "records",
		Short: "The format of import and export",
		Long: `Import and export have one JSON object a line, with a key and a value:

  {"key":"user:1","value":"Ada"}

Bytes that are not UTF-8 are in base64 (with padding), key and value each for
itself:

  {"key_base64":"/wA=","value":"Ada"}

A record may say how long its value can be read: "expires" is a time in
milliseconds since 1970, as export prints it, and "ttl" a duration, such as 90s,
10m or 24h, that begins when the record is written. One that expired before it is
imported is written all the same: it replaces what is there, and reads as absent.

  {"key":"session:7","value":"open","expires":1900000000000}
  {"key":"session:8","value":"open","ttl":"30m"}

Other fields, and fields that come twice, are refused, and so is text that is
not UTF-8 or has half of a surrogate pair: it would come back as something else.
Blank lines are skipped. A line has at most 32 MiB.

The log of import --log has one object a line:

  {"key":"user:1","outcome":"done"}
  {"key":"user:2","outcome":"refused","error":"..."}

An outcome is done, refused (nothing was written) or unknown (it may have been).`,
	}
}
