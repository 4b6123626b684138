// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

/// @title The heads of the log of receipts, where nobody can take them back.
/// @notice Sequence numbers and sizes only grow, and each anchor names the root before it, so the
/// events form one chain from which a rewritten history would stand out.
contract LogAnchor is Ownable {
    /// @notice Only the writer may anchor.
    error NotWriter(address caller);
    /// @notice A sequence number must grow.
    error SequenceNotAfter(uint48 sequence, uint48 last);
    /// @notice The log must grow.
    error SizeNotAfter(uint48 size, uint48 last);
    /// @notice A root is empty.
    error EmptyRoot();

    /// @notice Checkpoint `sequence` of the log: its size, its root and the root anchored before.
    event Anchored(uint48 indexed sequence, uint48 size, bytes32 root, bytes32 previousRoot);
    /// @notice Another account writes from now on.
    event WriterChanged(address previous, address writer);

    /// @notice Who may anchor. Packed with the head, so that an anchor writes two slots only.
    address public writer;
    /// @notice The last anchored checkpoint's number; 0 before the first.
    uint48 public sequence;
    /// @notice The number of receipts under the last anchored root.
    uint48 public size;
    /// @notice The last anchored root.
    bytes32 public root;

    /// @param owner_ The timelock.
    /// @param writer_ The ledger's sender.
    constructor(address owner_, address writer_) Ownable(owner_) {
        _setWriter(writer_);
    }

    /// @notice Anchor a checkpoint. Some may be left out, none may come late.
    function anchor(uint48 sequence_, uint48 size_, bytes32 root_) external {
        if (msg.sender != writer) revert NotWriter(msg.sender);
        if (sequence_ <= sequence) revert SequenceNotAfter(sequence_, sequence);
        if (size_ <= size) revert SizeNotAfter(size_, size);
        if (root_ == 0) revert EmptyRoot();
        bytes32 previous = root;
        sequence = sequence_;
        size = size_;
        root = root_;
        emit Anchored(sequence_, size_, root_, previous);
    }

    /// @notice Let `writer_` anchor instead.
    function setWriter(address writer_) external onlyOwner {
        _setWriter(writer_);
    }

    function _setWriter(address writer_) private {
        emit WriterChanged(writer, writer_);
        writer = writer_;
    }
}
