// Compiles src/*.sol with the pinned compiler and writes artifacts/*.json (ABI and bytecode only).
//
//   npm ci && node build.mjs [--modules node_modules] [--src src] [--out artifacts]
//                            [--build-info FILE]
//
// With --build-info, what the compiler was given and gave, syntax trees and source maps included,
// goes to FILE in the form that Hardhat and Foundry write, for analysers; no artifacts are written.
// The settings leave the metadata hash out of the bytecode, so the bytes depend on the code and the
// compiler alone: every machine builds the same files, and a rebuild that differs is a change.
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const here = dirname(fileURLToPath(import.meta.url));
const { values: given } = parseArgs({
  options: {
    "build-info": { type: "string" },
    modules: { type: "string", default: join(here, "node_modules") },
    out: { type: "string", default: join(here, "artifacts") },
    src: { type: "string", default: join(here, "src") },
  },
});
const modules = resolve(given.modules);
const out = resolve(given.out);
const src = resolve(given.src);
const wanted = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"];
if (given["build-info"]) {
  wanted.push("evm.bytecode.sourceMap", "evm.deployedBytecode.sourceMap", "userdoc", "devdoc");
}
const solc = createRequire(join(modules, "x.js"))("solc");

const sources = Object.fromEntries(
  readdirSync(src)
    .filter((name) => name.endsWith(".sol"))
    .sort()
    .map((name) => [`src/${name}`, { content: readFileSync(join(src, name), "utf8") }]),
);
const input = {
  language: "Solidity",
  sources,
  settings: {
    evmVersion: "prague",
    optimizer: { enabled: true, runs: 200 },
    metadata: { bytecodeHash: "none", appendCBOR: false },
    outputSelection: { "*": { "*": wanted, ...(given["build-info"] && { "": ["ast"] }) } },
  },
};

function read(path) {
  try {
    return { contents: readFileSync(join(modules, path), "utf8") };
  } catch {
    return { error: `${path} is not in ${modules}` };
  }
}

const output = JSON.parse(solc.compile(JSON.stringify(input), { import: read }));
// A warning about a library is its authors' business; one about our own code stops the build.
const problems = (output.errors ?? []).filter(
  ({ severity, sourceLocation }) =>
    severity === "error" || (severity === "warning" && sourceLocation?.file.startsWith("src/")),
);
for (const problem of problems) console.error(problem.formattedMessage);
if (problems.length > 0) process.exit(1);

if (given["build-info"]) {
  // solc adds the sources of imports to its output alone; analysers read them by path.
  const info = { solcVersion: solc.version().split("+")[0], input, output };
  writeFileSync(given["build-info"], JSON.stringify(info));
  process.exit(0);
}

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
for (const path of Object.keys(sources)) {
  const name = path.slice("src/".length, -".sol".length);
  const built = output.contracts[path][name];
  // An abstract contract is a part of others.
  if (built.evm.bytecode.object === "") continue;
  const size = built.evm.deployedBytecode.object.length / 2;
  if (size > 24_576) {
    console.error(`${name} has ${size} bytes, more than EIP-170 allows`);
    process.exit(1);
  }
  const artifact = {
    contractName: name,
    compiler: solc.version(),
    abi: built.abi,
    bytecode: `0x${built.evm.bytecode.object}`,
  };
  writeFileSync(join(out, `${name}.json`), `${JSON.stringify(artifact, null, 1)}\n`);
  console.log(`${name.padEnd(20)} ${String(size).padStart(6)} bytes`);
}
