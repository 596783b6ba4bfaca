// SPDX-License-Identifier: Apache-2.0
// What all drivers in JavaScript share; report.py says how they talk with the test.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// Where tests/clients/install puts the packages.
export const installed = createRequire(
  new URL("../../../build/clients/package.json", import.meta.url),
);
export const settings = JSON.parse(
  readFileSync(process.argv[process.argv.indexOf("--config") + 1], "utf8"),
);

export function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

// What the client handed to its user.
export class Seen {
  #counts = {};
  #arrived = [];
  #messages = { sent: 0, made: 0 };

  // A dispatch as the client decoded it.
  packet(name, body) {
    if (name === "GUILD_CREATE") this.#arrived.push(body.id);
    else if (body?._count !== undefined) {
      if (name === "MESSAGE_CREATE") this.#messages.sent += 1;
      (this.#counts[body.guild_id] ??= []).push(body._count);
    }
  }

  // A message as an object of the client's own.
  message() {
    this.#messages.made += 1;
  }

  report(more) {
    say({
      event: "report",
      messages: this.#messages,
      arrived: this.#arrived,
      counts: this.#counts,
      ...more,
    });
  }
}

// Report, with `more`, as often as the test asks; end the client, and the process, when it asks no
// more.
export async function obey(seen, { end, more = () => ({}) }) {
  for await (const _ of createInterface({ input: process.stdin })) seen.report(more());
  await end();
  process.exit(0);
}
