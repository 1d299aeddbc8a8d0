/** Run by `bun test` before any test file (bunfig.toml): the library is there and up to date. */
import { ensureLibrary } from "./library-build.ts";

ensureLibrary();
