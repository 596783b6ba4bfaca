# SPDX-License-Identifier: Apache-2.0
"""The local gateway: a cluster as Discord's gateway for the bots of its own machine.

handler -> gateway -> feed (of a shard): image, log -> delivery -> encoding -> bot -> its socket
                               commands <- dialogue <- requests <- frames <- bot <-
"""
