/**
 * The packages with the library, by name. Each name is a literal, so that a bundler follows it and
 * `bun build --compile` embeds the file; the `try` around the calls is what lets a bundler pass over the
 * packages of other platforms, which are not installed. In the package this file stays as it is, because
 * a bundler does not look into what Bun has bundled already.
 */

/** Path of the library as its package says it; undefined if there is no package for the platform. */
export function packagedLibrary(platform: string): string | undefined {
  let found: { default: string } | undefined;
  try {
    switch (platform) {
      case "linux-x64":
        found = require("@holdfast/linux-x64");
        break;
      case "linux-arm64":
        found = require("@holdfast/linux-arm64");
        break;
      case "darwin-arm64":
        found = require("@holdfast/darwin-arm64");
        break;
      case "darwin-x64":
        found = require("@holdfast/darwin-x64");
        break;
    }
  } catch (error) {
    throw new Error(String((error as Error).message ?? error).split("\n")[0]);
  }
  return found?.default;
}
