// SPDX-License-Identifier: Apache-2.0
// What tests/bench/orders.py is for Python.
import { createRequire } from "node:module";
import { join } from "node:path";
import { writeSync } from "node:fs";

export const orders = JSON.parse(process.env.DISCLUSTER_BENCH);
export const require = createRequire(join(orders.modules, "any.js"));
export const INTENTS = 1 | (1 << 9) | (1 << 15);
export const EVENT = "MESSAGE_CREATE";

export const say = (line) => writeSync(1, `${line}\n`);

const marks = orders.marks.values();
let mark = marks.next().value;
let counted = 0;

export function count() {
  counted += 1;
  if (counted >= mark) {
    say(`counted ${counted}`);
    mark = marks.next().value ?? Infinity;
  }
}
