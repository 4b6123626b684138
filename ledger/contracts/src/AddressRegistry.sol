// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

/// @title Where the contracts of OpenLedger stand.
/// @notice No contract here can be upgraded: a new version is a new instance, and the holders decide
/// that its name points to it. Whoever trusts this one address finds all the others, and sees in its
/// events since when each has been in use.
contract AddressRegistry is Ownable {
    /// @notice Names and addresses are not of one number, or are none.
    error LengthMismatch(uint256 names, uint256 addresses);
    /// @notice A name is empty.
    error EmptyName();
    /// @notice No code stands at `place`, so it is no contract: a mistyped address, most likely.
    error NotAContract(bytes32 name, address place);
    /// @notice `name` points there already.
    error Unchanged(bytes32 name);
    /// @notice Nothing was ever registered as `name`.
    error UnknownName(bytes32 name);

    /// @notice In `version`, `name` went from `previous` to `place`.
    event AddressChanged(
        uint64 indexed version, bytes32 indexed name, address indexed place, address previous
    );

    /// @notice How many changes were made.
    uint64 public version;
    bytes32[] private _names;
    mapping(bytes32 name => address) private _addresses;

    /// @param owner_ The timelock.
    /// @param names_ What stands in version 1: the contracts' names as ASCII, zeros behind.
    /// @param addresses_ Where each of them stands.
    constructor(address owner_, bytes32[] memory names_, address[] memory addresses_) Ownable(owner_) {
        _set(names_, addresses_);
    }

    /// @notice Point names to other instances; all of them are one version.
    function set(bytes32[] calldata names_, address[] calldata addresses_) external onlyOwner {
        _set(names_, addresses_);
    }

    /// @notice Where `name` stands.
    function get(bytes32 name) external view returns (address place) {
        place = _addresses[name];
        if (place == address(0)) revert UnknownName(name);
    }

    /// @notice Everything that is registered, in the order in which it first was.
    function all() external view returns (bytes32[] memory names_, address[] memory addresses_) {
        names_ = _names;
        addresses_ = new address[](names_.length);
        for (uint256 i = 0; i < names_.length; ++i) {
            addresses_[i] = _addresses[names_[i]];
        }
    }

    function _set(bytes32[] memory names_, address[] memory addresses_) private {
        if (names_.length == 0 || names_.length != addresses_.length) {
            revert LengthMismatch(names_.length, addresses_.length);
        }
        uint64 next = ++version;
        for (uint256 i = 0; i < names_.length; ++i) {
            (bytes32 name, address place) = (names_[i], addresses_[i]);
            address previous = _addresses[name];
            if (name == 0) revert EmptyName();
            if (place.code.length == 0) revert NotAContract(name, place);
            if (place == previous) revert Unchanged(name);
            if (previous == address(0)) _names.push(name);
            _addresses[name] = place;
            emit AddressChanged(next, name, place, previous);
        }
    }
}
