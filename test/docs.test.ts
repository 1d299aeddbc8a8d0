/** Documents do not rot: see scripts/docs.ts for what is compared with what. */
import { expect, test } from "bun:test";
import { documentFaults } from "../scripts/docs.ts";

test("every quotation, link, command and export in the documents is true", async () => {
  expect(await documentFaults()).toEqual([]);
});
