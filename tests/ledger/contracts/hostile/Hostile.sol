// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title A holder with a mind of its own, for tests alone.
/// @notice It holds money as a contract does, and when it is paid does what it was armed for.
contract Hostile {
    /// @notice What it does when it is paid.
    enum Mode {
        Accept,
        Refuse,
        Burn,
        Bomb,
        CallBack
    }

    /// @notice A call back was answered.
    event CalledBack(bool succeeded, bytes answer);

    uint256 private constant DEPTH = 3;
    Mode private _mode;
    address private _target;
    bytes private _data;
    uint256 private _depth;

    /// @notice Do that when paid; a call back goes to `target` with `data`.
    function arm(Mode mode, address target, bytes calldata data) external {
        (_mode, _target, _data) = (mode, target, data);
    }

    /// @notice Call `target` as this holder.
    function run(address target, bytes calldata data) external payable {
        (bool succeeded, bytes memory answer) = target.call{value: msg.value}(data);
        if (succeeded) return;
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }

    receive() external payable {
        if (_mode == Mode.Refuse) revert();
        if (_mode == Mode.Burn) {
            while (true) {}
        }
        if (_mode == Mode.Bomb) {
            // A caller who copies what is returned pays for this much memory.
            assembly {
                return(0, 1000000)
            }
        }
        if (_mode == Mode.CallBack && _depth < DEPTH) {
            ++_depth;
            (bool succeeded, bytes memory answer) = _target.call(_data);
            emit CalledBack(succeeded, answer);
            --_depth;
        }
    }
}
