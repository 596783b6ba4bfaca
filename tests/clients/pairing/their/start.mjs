// SPDX-License-Identifier: Apache-2.0
// node --import: makes the simulator Discord's API, for what start.py is in Python.
import { pathToFileURL } from "node:url";
import { installed, settings } from "../../drivers/report.mjs";

const api = settings.api.replace(/\/v10$/, "");
// As require() and as import see it, which are two modules.
installed("@discordjs/rest").DefaultRestOptions.api = api;
const module = installed.resolve("@discordjs/rest").replace(/\.js$/, ".mjs");
(await import(pathToFileURL(module))).DefaultRestOptions.api = api;
