// What every client's script shares: where the router is, and one line for every check.

import { isDeepStrictEqual } from 'node:util';

export const BASE_URL = process.env.BASE_URL;
export const GOOD = process.env.GOOD ?? 'good/m';
export const KEY = 'sk-any';

/** Prints the outcome; ends the script at the first that does not hold. */
export function check(name, holds, seen) {
    if (holds) {
        console.log(`ok   ${name}`);
        return;
    }
    console.log(`FAIL ${name}:`, seen);
    process.exit(1);
}

export function equal(name, seen, expected) {
    check(name, isDeepStrictEqual(seen, expected), { seen, expected });
}

/** Checks that a promise is rejected with this class, and gives the error back. */
export async function raises(name, kind, pending) {
    try {
        check(`${name} throws ${kind.name}`, false, await pending());
    } catch (error) {
        check(`${name} throws ${kind.name}`, error instanceof kind, error);
        return error;
    }
}
