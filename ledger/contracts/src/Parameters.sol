// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

/// @title The values that the holders govern.
/// @notice Each change makes a new version, and tells of every key that it touched. The four parts
/// of a fee are only ever set together, so that no block holds a split that is not a whole.
contract Parameters is Ownable {
    /// @notice How a fee is divided, in basis points.
    struct Split {
        uint16 platform;
        uint16 modelOwner;
        uint16 stakers;
        uint16 contributors;
    }

    /// @notice The parts of a split must add up to this.
    uint256 public constant WHOLE = 10_000;
    /// @notice The platform's part.
    bytes32 public constant SPLIT_PLATFORM = "split.platform";
    /// @notice The part of the model's owner.
    bytes32 public constant SPLIT_MODEL_OWNER = "split.model_owner";
    /// @notice The part of those who staked.
    bytes32 public constant SPLIT_STAKERS = "split.stakers";
    /// @notice The part of those whose records shaped the answer.
    bytes32 public constant SPLIT_CONTRIBUTORS = "split.contributors";

    /// @notice The parts add up to `sum`.
    error SplitNotWhole(uint256 sum);
    /// @notice `key` is a part of the split, which `setSplit` sets as a whole.
    error PartOfSplit(bytes32 key);
    /// @notice Keys and values are not of one number, or are none.
    error LengthMismatch(uint256 keys, uint256 values);
    /// @notice `key` has that value already.
    error Unchanged(bytes32 key);

    /// @notice In `version`, `key` went from `previous` to `value`.
    event ParameterChanged(
        uint64 indexed version, bytes32 indexed key, uint256 previous, uint256 value
    );

    /// @notice How many changes were made.
    uint64 public version;
    mapping(bytes32 key => uint256) private _values;

    /// @param owner_ The timelock.
    /// @param initial The split of version 1.
    constructor(address owner_, Split memory initial) Ownable(owner_) {
        _setSplit(initial);
    }

    /// @notice The value of `key`; 0 where it was never set.
    function get(bytes32 key) external view returns (uint256) {
        return _values[key];
    }

    /// @notice The split in force.
    function split() external view returns (Split memory) {
        return Split({
            platform: uint16(_values[SPLIT_PLATFORM]),
            modelOwner: uint16(_values[SPLIT_MODEL_OWNER]),
            stakers: uint16(_values[SPLIT_STAKERS]),
            contributors: uint16(_values[SPLIT_CONTRIBUTORS])
        });
    }

    /// @notice Divide fees by `parts` from now on.
    function setSplit(Split calldata parts) external onlyOwner {
        _setSplit(parts);
    }

    /// @notice Set values that are not parts of the split; all of them are one version.
    function set(bytes32[] calldata keys, uint256[] calldata values) external onlyOwner {
        if (keys.length == 0 || keys.length != values.length) {
            revert LengthMismatch(keys.length, values.length);
        }
        uint64 next = ++version;
        for (uint256 i = 0; i < keys.length; ++i) {
            if (_isSplit(keys[i])) revert PartOfSplit(keys[i]);
            if (_values[keys[i]] == values[i]) revert Unchanged(keys[i]);
            _change(next, keys[i], values[i]);
        }
    }

    function _setSplit(Split memory parts) private {
        uint256 sum = uint256(parts.platform) + parts.modelOwner + parts.stakers + parts.contributors;
        if (sum != WHOLE) revert SplitNotWhole(sum);
        uint64 next = ++version;
        // Unchanged parts are told as well: one version's events hold the whole split.
        _change(next, SPLIT_PLATFORM, parts.platform);
        _change(next, SPLIT_MODEL_OWNER, parts.modelOwner);
        _change(next, SPLIT_STAKERS, parts.stakers);
        _change(next, SPLIT_CONTRIBUTORS, parts.contributors);
    }

    function _change(uint64 version_, bytes32 key, uint256 value) private {
        uint256 previous = _values[key];
        _values[key] = value;
        emit ParameterChanged(version_, key, previous, value);
    }

    function _isSplit(bytes32 key) private pure returns (bool) {
        return key == SPLIT_PLATFORM || key == SPLIT_MODEL_OWNER || key == SPLIT_STAKERS
            || key == SPLIT_CONTRIBUTORS;
    }
}
