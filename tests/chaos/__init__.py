# SPDX-License-Identifier: Apache-2.0
"""Kill anything, count everything: ``make chaos`` writes docs/chaos.md.

recorder     the packet handler that notes every counted event, durably
recordings   what it noted, by shard and in order, over all processes that ran the shard
figures      from that, what Discord sent and the ledger: lost, doubled, gaps. Pure
rows         one line of the table and what it promises
observer     a row: from one quiet moment to the next
schedule     who is killed when, from a seed. Pure
campaigns    what is done to a fleet
losses       hosts are lost and the network breaks, at random
report       docs/chaos.md
"""
