package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// teachUUID makes a connection write and read uuid.UUID as the 16 bytes that it is. pgx knows the type only as a driver.Valuer and a
// sql.Scanner, whose way leads through text and, for each value, an error: that was a third of a busy worker's CPU time.
func teachUUID(_ context.Context, conn *pgx.Conn) error {
	m := conn.TypeMap()
	one := &pgtype.Type{Name: "uuid", OID: pgtype.UUIDOID, Codec: uuidCodec{}}
	m.RegisterType(one)
	m.RegisterType(&pgtype.Type{Name: "_uuid", OID: pgtype.UUIDArrayOID, Codec: &pgtype.ArrayCodec{ElementType: one}})
	m.TryWrapEncodePlanFuncs = append([]pgtype.TryWrapEncodePlanFunc{encodeUUIDs}, m.TryWrapEncodePlanFuncs...)
	return nil
}

// uuidCodec is pgtype's with a way of its own for uuid.UUID.
type uuidCodec struct{ pgtype.UUIDCodec }

// PlanEncode implements pgtype.Codec.
func (c uuidCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return uuidPlan{}
	}
	return c.UUIDCodec.PlanEncode(m, oid, format, value)
}

// PlanScan implements pgtype.Codec.
func (c uuidCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return uuidPlan{}
	}
	return c.UUIDCodec.PlanScan(m, oid, format, target)
}

// uuidPlan is for the binary format.
type uuidPlan struct{}

// Encode implements pgtype.EncodePlan.
func (uuidPlan) Encode(value any, buf []byte) ([]byte, error) {
	id, ok := value.(uuid.UUID)
	if !ok {
		return nil, fmt.Errorf("writing %T as a uuid", value)
	}
	return append(buf, id[:]...), nil
}

// Scan implements pgtype.ScanPlan. NULL is the zero id, as uuid.UUID itself has it.
func (uuidPlan) Scan(src []byte, target any) error {
	id, ok := target.(*uuid.UUID)
	if !ok || len(src) != len(id) && src != nil {
		return fmt.Errorf("reading %d bytes as a uuid into %T", len(src), target)
	}
	*id = uuid.Nil
	copy(id[:], src)
	return nil
}

// uuids is a []uuid.UUID as pgtype.ArrayCodec wants it, which otherwise reflects on each element.
type uuids []uuid.UUID

// Dimensions implements pgtype.ArrayGetter. nil is NULL.
func (u uuids) Dimensions() []pgtype.ArrayDimension {
	if u == nil {
		return nil
	}
	return []pgtype.ArrayDimension{{Length: int32(len(u)), LowerBound: 1}}
}

// Index implements pgtype.ArrayGetter.
func (u uuids) Index(i int) any { return u[i] }

// IndexType implements pgtype.ArrayGetter.
func (u uuids) IndexType() any { return uuid.UUID{} }

// encodeUUIDs implements pgtype.TryWrapEncodePlanFunc.
func encodeUUIDs(value any) (plan pgtype.WrappedEncodePlanNextSetter, next any, ok bool) {
	ids, ok := value.([]uuid.UUID)
	return &uuidsPlan{}, uuids(ids), ok
}

type uuidsPlan struct{ next pgtype.EncodePlan }

// SetNext implements pgtype.WrappedEncodePlanNextSetter.
func (p *uuidsPlan) SetNext(next pgtype.EncodePlan) { p.next = next }

// Encode implements pgtype.EncodePlan.
func (p *uuidsPlan) Encode(value any, buf []byte) ([]byte, error) {
	ids, ok := value.([]uuid.UUID)
	if !ok {
		return nil, fmt.Errorf("writing %T as uuids", value)
	}
	return p.next.Encode(uuids(ids), buf)
}
