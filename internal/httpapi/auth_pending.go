package httpapi

import (
	"context"

	"foundry/internal/errs"
	"foundry/internal/httpapi/openapi"
)

func pending() error { return errs.E(errs.Unavailable, "This is not served yet.") }

func (h *handlers) Login(context.Context, openapi.LoginRequestObject) (openapi.LoginResponseObject, error) {
	return nil, pending()
}

func (h *handlers) Logout(context.Context, openapi.LogoutRequestObject) (openapi.LogoutResponseObject, error) {
	return nil, pending()
}

func (h *handlers) ChangePassword(context.Context, openapi.ChangePasswordRequestObject) (openapi.ChangePasswordResponseObject, error) {
	return nil, pending()
}

func (h *handlers) ListSessions(context.Context, openapi.ListSessionsRequestObject) (openapi.ListSessionsResponseObject, error) {
	return nil, pending()
}

func (h *handlers) DeleteSession(context.Context, openapi.DeleteSessionRequestObject) (openapi.DeleteSessionResponseObject, error) {
	return nil, pending()
}

func (h *handlers) ListTokens(context.Context, openapi.ListTokensRequestObject) (openapi.ListTokensResponseObject, error) {
	return nil, pending()
}

func (h *handlers) CreateToken(context.Context, openapi.CreateTokenRequestObject) (openapi.CreateTokenResponseObject, error) {
	return nil, pending()
}

func (h *handlers) DeleteToken(context.Context, openapi.DeleteTokenRequestObject) (openapi.DeleteTokenResponseObject, error) {
	return nil, pending()
}

func (h *handlers) ListMembers(context.Context, openapi.ListMembersRequestObject) (openapi.ListMembersResponseObject, error) {
	return nil, pending()
}

func (h *handlers) UpdateMember(context.Context, openapi.UpdateMemberRequestObject) (openapi.UpdateMemberResponseObject, error) {
	return nil, pending()
}

func (h *handlers) RemoveMember(context.Context, openapi.RemoveMemberRequestObject) (openapi.RemoveMemberResponseObject, error) {
	return nil, pending()
}

func (h *handlers) ListInvitations(context.Context, openapi.ListInvitationsRequestObject) (openapi.ListInvitationsResponseObject, error) {
	return nil, pending()
}

func (h *handlers) CreateInvitation(context.Context, openapi.CreateInvitationRequestObject) (openapi.CreateInvitationResponseObject, error) {
	return nil, pending()
}

func (h *handlers) AcceptInvitation(context.Context, openapi.AcceptInvitationRequestObject) (openapi.AcceptInvitationResponseObject, error) {
	return nil, pending()
}

func (h *handlers) DeleteInvitation(context.Context, openapi.DeleteInvitationRequestObject) (openapi.DeleteInvitationResponseObject, error) {
	return nil, pending()
}
